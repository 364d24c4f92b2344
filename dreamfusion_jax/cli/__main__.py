import sys

from dreamfusion_jax.cli import main

sys.exit(main())
