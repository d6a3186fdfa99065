"""The engine: every rule about mail and all sending. It runs without a browser and never imports Flask."""
