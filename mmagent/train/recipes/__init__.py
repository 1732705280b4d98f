"""Training recipes, a YAML file each; `mmagent.train.recipe` reads them."""
