"""Pages from the web: ``source`` declares them, ``listings`` finds their URLs, ``crawl`` fetches them politely.

Below these, ``client`` makes one request in a well-behaved way, ``robots`` and ``pace`` say whether and
when, ``network`` and ``addresses`` see to it that nothing but public addresses is ever connected to, and
``journal`` keeps what was fetched, so that a killed collection goes on where it was.
"""
