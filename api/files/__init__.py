"""Files: uploads, artifacts, signed links, and the removal of blobs that nothing references."""
