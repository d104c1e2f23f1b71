"""Self-contained pages: text, tables and charts in one HTML file that opens without a network.

The charts are drawn as SVG by Apache ECharts 6.1.0: `echarts.common.min.js` is that file of the npm package `echarts`
as it was published, with its licences beside it. Each chart has its figures beside it as a table, for screen readers,
for printing, and for browsers that run no scripts.
"""

from fleetops.page.html import Pieces, render_page, render_pieces
from fleetops.page.parts import Chart, Facts, Notes, Page, Panel, Part, Section, Source, Table, Text

__all__ = [
    "Chart",
    "Facts",
    "Notes",
    "Page",
    "Panel",
    "Part",
    "Pieces",
    "Section",
    "Source",
    "Table",
    "Text",
    "render_page",
    "render_pieces",
]
