-- one row, and a second statement
select 1 as n;
  drop table orders;
