"""Adapters for other people's frameworks, one file each, imported by nobody but the user.

A `Node` needs none of them: it is a plain object that starts in any thread or loop. An adapter is for those who have
code against their framework's own cache (`django`, `flask`), or want its hooks to start and close the node (`celery`,
`fastapi`), or fixtures (`pytest`). None imports another; what a framework stores beyond plain values is registered
beside its adapter.
"""
