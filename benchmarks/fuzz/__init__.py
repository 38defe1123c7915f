"""Values and files that a person or an accident may give maskgr: each must be refused in one line or be
accepted.
"""
