"""Values and files that a person or an accident may give maskgr: each must be refused in a line or be taken rightly."""
