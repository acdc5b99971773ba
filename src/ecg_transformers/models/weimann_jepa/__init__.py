"""The JEPA of Weimann and Conrad: tokens of time windows over all leads, a slow teacher, hidden blocks of time."""
