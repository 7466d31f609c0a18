"""The provider's end: it validates, keeps the register, issues, commands, and shows it all."""
