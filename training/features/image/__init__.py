"""Features of images: what the kind image adds to those of all kinds."""
