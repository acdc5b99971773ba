"""ST-MEM: masked patches in space (leads) and time, and a decoder that all leads share."""
