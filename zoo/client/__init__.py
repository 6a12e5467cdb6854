"""A device follows what is published: trust, plan, fetch, test. Needs the extra ``fetch``."""
