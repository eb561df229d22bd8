"""What is deployed: chart, manifests, alerts and dashboard; `python -m tests.deploy` renews what is generated."""
