"""Self-contained HTML pages and pictures: numbers with their uncertainty, curves, and the very objects behind them."""
