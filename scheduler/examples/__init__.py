"""The starter desk: the tasks of config/tasks.yaml, short enough to copy from.

Read them in this order: ``market_monitoring`` (a plain function in a thread), ``signal_generation``
(the same as ``async def``), ``news_integration``, ``regime_monitoring``, ``host_health``, and
``quote_server`` (a long-lived loop). ``feed`` is how they ask the feed, ``replay`` what it replays.
"""
