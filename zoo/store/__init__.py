"""The store of a device: verified blobs and the record of what is installed."""
