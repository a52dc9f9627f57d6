"""All compiled code; nothing here imports anything of the package but what is here."""
