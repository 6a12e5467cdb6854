"""Small real things that tests share: models, zoos, publishers, stores, servers."""
