-- one row
select 1 as n;
