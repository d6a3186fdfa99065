"""The safe: sealing, the guarded way out, and the pen that blacks out secrets. No Flask, no database."""
