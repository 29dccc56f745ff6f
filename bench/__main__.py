"""`python -m bench` is `python -m bench.proxy`: there is one benchmark."""

from bench.proxy import main

if __name__ == "__main__":
    main()
