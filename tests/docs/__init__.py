"""The pages, executed and compared with what is there."""
