//! What is shown: the page, the health answers, and the server around them.
