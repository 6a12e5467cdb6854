"""Into the zoo: export, import, compression and exchange of weights. Needs the extra ``train``."""
