"""The report as a page: what a journal says over time, and every row in a table that filters, sorts and searches."""

from fleetops.report.html.figures import Figures, read_figures
from fleetops.report.html.rows import base_ms, changing_cells, read_rows, rows_panel
from fleetops.report.html.sections import report_page

__all__ = ["Figures", "base_ms", "changing_cells", "read_figures", "read_rows", "report_page", "rows_panel"]
