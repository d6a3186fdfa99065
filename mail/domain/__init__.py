"""SPF, DKIM and DMARC of a From domain, looked up on request and judged for the mail server in use."""
