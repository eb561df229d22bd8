"""A small pack to begin with: a moment, a campaign, the policy and their tests, as `orchestrator init` writes them."""
