-- Life in the shop without a client: the server itself lets time pass, once a second.
use shop;
create event passing_time on schedule every 1 second do call tick();
