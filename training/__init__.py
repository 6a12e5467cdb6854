"""From labelled images and a zoo to a certified selector. Needs the ``train`` extra."""
