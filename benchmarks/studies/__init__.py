"""What is measured about attnbench and its methods and is not speed: tables of the docs."""
