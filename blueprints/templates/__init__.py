"""What a store writes for its mails: the list of kinds, the editor with its preview, versions."""
