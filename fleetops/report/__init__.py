"""What became of a run: reports for machines and spreadsheets, and a summary for people.

The modules are imported one by one: `summary` and `formats` are light, `frame` and `output` need numpy, and tables and
pages pandas besides.
"""
