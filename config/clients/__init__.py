"""How clients are connected: the texts that the command line, the documentation and the dashboard show. Pure."""
