"""Parts of a workspace: removal and renaming."""
