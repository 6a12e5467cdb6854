"""The commands of the ``train`` extra, one file a group."""
