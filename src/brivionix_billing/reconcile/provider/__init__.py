"""Reports of providers against our usage at the prices of a cost book, by day, model, tier, project and token kind."""
