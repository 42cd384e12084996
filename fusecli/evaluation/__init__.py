"""How methods are compared: cases, scores, tables, figures and the report."""
