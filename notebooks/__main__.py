"""`python -m notebooks` runs the notebooks anew, in place; `… pictures` draws families anew; `… site` builds the site."""

import sys

USAGE = "usage: python -m notebooks [pictures | site]"


def main(arguments):
    """Do what is asked; each needs an extra of its own."""
    if arguments == []:
        from notebooks.kept import main
    elif arguments == ["pictures"]:
        from notebooks.pictures import main
    elif arguments == ["site"]:
        from notebooks.site import main
    else:
        raise SystemExit(USAGE)
    main()


if __name__ == "__main__":
    main(sys.argv[1:])
