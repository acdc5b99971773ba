"""CMSC: adjacent segments of a record, and records of one patient, are positives; any encoder as backbone."""
