# The desktop is up when the shell of its terminal asks for a command.
PS1='\[\e[1;32m\]desktop\[\e[0m\]:\[\e[1;34m\]\w\[\e[0m\]\$ '
PROMPT_COMMAND='touch /run/desktop/prompt'
alias ls='ls --color=auto'
