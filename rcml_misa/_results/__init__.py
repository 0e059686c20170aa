"""Parts of `rcml_misa.results`, from where they are to be imported."""
