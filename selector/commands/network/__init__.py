"""Commands for where the device alone cannot answer."""
