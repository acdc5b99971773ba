"""MIMIC-IV-ECG: its plan, where its records lie, and labels by rules on the reports."""
