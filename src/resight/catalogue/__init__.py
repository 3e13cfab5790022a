"""What is known: images, annotations, individuals, encounters, splits and the ledger of identities."""
