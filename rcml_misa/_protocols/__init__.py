"""Parts of `rcml_misa.protocols`, from where they are to be imported."""
