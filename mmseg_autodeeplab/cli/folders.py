"""Folders that converters link."""

import os
import os.path as osp

from ..errors import UserError


def link_folder(source: str, link: str) -> None:
    """Link a folder; one of the user's own making may stay where it is."""
    source = osp.abspath(source)
    if osp.islink(link):
        if osp.realpath(link) != osp.realpath(source):
            raise UserError(
                f'{link} is a link to {os.readlink(link)}, not to {source}: '
                'delete it, or give another OUT_DIR'
            )
    elif not osp.isdir(link):
        try:
            os.makedirs(osp.dirname(link), exist_ok=True)
            os.symlink(source, link, target_is_directory=True)
        except OSError as error:
            raise UserError(
                f'cannot link {link} to {source} ({error.strerror}): copy '
                'that folder there and run this again'
            ) from error
