"""HTTP routes: they parse, call one service, and answer."""
