"""Self-contained HTML pages and pictures: numbers with intervals, curves, and the errors behind them."""
