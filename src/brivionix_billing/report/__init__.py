"""Reports on usage: totals that match the bills, margin, what-if; and the XLSX writer for all reports."""
