"""What the readers of hospital formats share: recognition by content, safe XML, identity, lead names, one record."""
