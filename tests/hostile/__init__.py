"""Records made to do harm, among good ones, in a process with little memory and time. See docs/hostile-input.md."""
