"""Mail becomes tickets, tickets are answered, answers find their way back."""
