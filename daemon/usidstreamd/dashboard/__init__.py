"""The dashboard: a web page that shows scans while they run, served by a process of its own.

It listens to the daemon's telemetry socket as any other viewer does and reads files by SWMR, so
that no browser can slow the ingest; nothing else of the daemon imports it, the command starts it.

``views``, ``maps``, ``scaling``, ``colours``, ``choices``, ``standing`` and ``markup`` are pure:
what a layout needs to be seen, the values of a map and which lines of it are new, limits and
palettes, what the page's boxes offer and mean, how daemon and scans stand, and how that is said.
``files`` reads files in a thread. ``hub`` holds the sockets and what all browsers share.

The others are Bokeh's. Figures: ``looks``, ``map_panel``, ``spectrum_panels``. One browser's page:
``controls``, ``spectra``, ``telling``, ``session``. ``serving`` serves it.
"""
