"""Parts of `rcml_misa.runs`, from where they are to be imported."""
